"""Everything that the services ask of the world, as Protocols with their contracts.

``store`` and ``records`` hold the database, ``engine`` containers, ``world`` everything else outside.
"""
