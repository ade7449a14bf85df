"""Sessions and the service in one process, under one virtual clock and one seed, over a network that fails.

:func:`~simulation.search.run` runs one seed of one :class:`~simulation.weather.Weather`; a broken promise raises
:class:`~simulation.search.Violation`, which :func:`~simulation.search.shrink` reduces to the fewest events.
"""
