"""The explorer: a trace as one HTML page that needs nothing else, neither a network nor a server.

`collect` takes the numbers out of a trace, and `page_of` puts them into the page. The page itself is in
page.html, page.css and the scripts beside them, each of one subject.
"""
