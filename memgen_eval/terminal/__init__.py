"""What a terminal shows: bars while a run goes on, tables at its width, and the words that complete a command."""
