"""Objects in S3, or in a store that speaks its protocol. Needs the extra `s3`."""

from buffetstore.objects.s3.store import S3Store

__all__ = ["S3Store"]
