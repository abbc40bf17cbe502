complete --keep-order --exclusive --command knit --arguments "(_KNIT_COMPLETE=fish knit -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
