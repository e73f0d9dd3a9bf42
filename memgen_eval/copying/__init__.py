"""Whether samples copy the training set: rules, controls and the verdict; arrays and tables of neighbours in."""
