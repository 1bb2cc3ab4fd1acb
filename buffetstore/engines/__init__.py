"""Other query engines over governed data: each gets the rows it needs, and computes."""
