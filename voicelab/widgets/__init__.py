"""What people touch in JupyterLab."""
