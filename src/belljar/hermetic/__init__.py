"""Any command, hermetically, in a directory that has no recipe: what `belljar run` does.

`profile` is what one build tool needs, as data (profiles/*.toml), `request` what the caller asks for;
`project`, `system` and `variables` turn that into what the command sees, `plan` puts it together as
sandbox values, `tools` identifies what is executed, `run` carries a plan out, `record` is what there is
to say.
"""
