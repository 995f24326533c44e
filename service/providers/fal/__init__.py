"""fal: any model by its path, through its queue."""
