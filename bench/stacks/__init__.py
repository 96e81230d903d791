"""``python -m bench.stacks``: Linux stacks on vnet beside other ways of joining them, interleaved in one run.

======================  ===========================================================  =================================
case                    what                                                         bars
======================  ===========================================================  =================================
``tcp``                 iperf3, one flow, client and server on a processor each      the bare loop's; 0.6 of a kernel
                                                                                     bridge's; 5 times VDE's; more than
                                                                                     Open vSwitch's with TSO
``ping``                echoes between idle namespaces, one after the other          1.2 times the bare loop's
``udp``                 iperf3, datagrams that arrive, by size                       none
``queues``              the bare loop with one and two queues a device, 1 and 2      none
                        TCP flows
``start``               namespaces on one network, up and down                       100 up in 5 s, down in 3 s
======================  ===========================================================  =================================

Every peer joins two network namespaces at the same time as the others, idle but for the one that is measured; they are
measured in turns, and ratios are medians over the rounds.  All of it happens inside namespaces of the benchmark's own:
the machine's has no part in it, and nothing is left behind when any process dies.

::

    __main__    options; goes into namespaces of its own
    cases       what is measured, of whom, how often; ratios and bars
    peers       the networks: each joins two namespaces in its own way
    measure     iperf3 and ping between two namespaces
    startup     networks of many nodes, up and down
    spaces      namespaces and programs that end with the benchmark
    report      tables and JSON
"""
