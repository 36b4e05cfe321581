"""What a run leaves behind to look at: event files and figures."""
