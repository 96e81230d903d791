"""Routers of vnet held against the Linux kernel's: the same labs, the same probes, the answers field by field."""
