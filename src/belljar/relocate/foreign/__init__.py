"""Trees that belljar did not build: what moving one takes, kind by kind of content; plans, writes nothing."""
