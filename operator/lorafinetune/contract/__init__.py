"""What the operator and the stage programs share: arguments, results, keys, exit codes, places.

The operator encodes what a stage decodes with the same classes, so neither can drift from the other.
"""
