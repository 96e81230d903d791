"""Help for those who test programs that use a LAN."""
