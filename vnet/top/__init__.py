"""``vnet top``: a live LAN in a terminal.

==========  ==================================================================
``feed``    what the base tells, followed in threads: samples and drops
``layout``  which columns fit the width, and a NIC's line in them
``table``   the widget with a line for each NIC
``app``     the application: keys, panes, what happens when the LAN ends
==========  ==================================================================

textual is imported here and nowhere else.
"""
