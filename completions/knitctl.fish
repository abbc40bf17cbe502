complete --keep-order --exclusive --command knitctl --arguments "(_KNIT_COMPLETE=fish knitctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
