"""Objects in Azure Blob Storage and ADLS Gen2. Needs the extra `azure`."""

from buffetstore.objects.azure.store import AzureStore

__all__ = ["AzureStore"]
