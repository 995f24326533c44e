"""The journeys: the only place where what is kept, what is said and the network meet."""
