"""Things made from text: what a run is asked for, how each method is run, and the folder it writes."""
