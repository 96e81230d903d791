"""Labs that stay up, as users meet them: the commands as they are typed, in a terminal where that matters."""
