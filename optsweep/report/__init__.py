"""From run directories to tables, figures and a page; never imports torch.

What is said stands in messages/en.yaml and messages/zh.yaml, not in the code: `language` has a text
that is English and can be told in Chinese. What a study says of its own (questions, claims, what
is found by each verdict) comes in an `outline.Outline` for each language.
"""

import logging

# matplotlib would say in two lines, on every start, that it finds no home for its own settings.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
