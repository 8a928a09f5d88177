"""The attack bank: what hostile handlers try, each attack with a twin that succeeds where one protection is away."""
