"""Pages in the browser: HTML from the API's own process, our own ES modules, one stream of changes a tab.

Owns: how things look and are worded for people (templates, styles, scripts, `words`), sessions' cookies and forms.
Does not own: any rule, number or right. A page asks the questions and gives the commands of `control` through the same
`Call` as the API's routes, so that it can do nothing that the API cannot.
Invariants: everything of others is escaped, always; nothing but ours is loaded, from nowhere but here; no script or
style stands inside a page; a form changes something only with its session's token, sent by our own page; each page
works before its scripts have come, and has a heading, labels and one place to look when there is nothing to show.
To add a page: a router file named after its subject, its line in `pages.SUBJECTS`, a template that extends
`shell.html`, and a line in the lists of pages of `tests/api/test_console_pages.py` and `tests/e2e/test_browser.py`.
"""
