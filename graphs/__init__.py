"""In which order: the LangGraph state machine of one run."""
