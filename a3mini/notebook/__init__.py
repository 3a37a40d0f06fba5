"""What notebooks and pages alone use; the rest of the package never imports it. Needs the extra ``notebooks``.

``theme`` (all colours), ``plots`` (figures), ``live`` (a chart that follows a training), ``explorers`` (interactive
figures), ``page`` (the compact model in JavaScript), ``checks`` (of the exercises, a file a chapter).
"""
