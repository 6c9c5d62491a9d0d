"""Everything that the services ask of the world, as Protocols with their contracts.

``world`` holds sources, datasets, engines, files, servers and mail; ``store`` the database.
"""
