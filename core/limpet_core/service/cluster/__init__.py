"""A service on several machines: every node runs the same logic over one log, and so has the same state.

:class:`~limpet_core.service.cluster.replica.Replica` is what a node holds in place of a
:class:`~limpet_core.service.core.ServiceCore`. What clients, application servers and event handlers do at a node becomes
a *command*. The node appends it to the log, and every node carries it out when it reads it back. The log itself, such as
a stream of Redis, is the adapter's.
"""
