"""Scenes edited by an instruction: what a run is asked for, how views are edited, and the folder it writes."""
