"""A pytest plugin for nbmake: notebooks with `interact` must not hang.

nbclient mimics the front end's output widget: it sends the widget's state back to the kernel over the
socket on which it waits for the cell's reply. Now and then that makes it miss the reply, and it waits until
the timeout (https://github.com/jupyter/nbclient/issues/312). Nothing here needs the state sent back.
"""

from nbclient.output_widget import OutputWidget

OutputWidget.sync_state = lambda self: None
