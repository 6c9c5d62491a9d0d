"""The use cases, one file each. They see the domain and the ports, nothing else."""
