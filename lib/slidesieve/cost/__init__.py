"""What a method costs: closed forms, measurements, and the plan of an experiment. Imports mil and below."""
