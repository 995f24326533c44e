"""Wake-ups: of journeys and requests in this process, and in other processes. They are hints; the rows are the truth."""
