"""A service on several machines: every node runs the same logic over one log, and so has the same state.

A node holds a :class:`~limpet_core.service.cluster.replica.Replica` in place of a
:class:`~limpet_core.service.core.ServiceCore`. An act of a client, an application server or an event handler becomes a
*command* in the log, and every node carries it out when it reads it back. The log itself, such as a stream of Redis, is
the adapter's.
"""
