"""Values that are computed when they are read, from stored features and from the request: once for serving and training.

    ratio        one stored feature divided by another
    function     a function of columns with declared outputs, and a digest of what it means
    source_code  that digest, of a Python function and of everything of yours that it uses
    encodings    the catalogue of functions that the library brings
    run          a function over columns, its outputs checked, rows on which it fails told apart
    functions    those that a reader has, counted
    worth        what a computed value is worth, given what its inputs are

Nothing here imports NumPy before a function is run.
"""
