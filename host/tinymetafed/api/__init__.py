"""What notebooks and the command line share: experiments loaded, runs begun and opened, progress shown."""
