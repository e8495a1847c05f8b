"""Maps of the hadron calorimeter: notebook 09 and `score-hcal`."""
