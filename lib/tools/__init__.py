"""Tools around the course: the runner of the notebooks, the doctor."""
