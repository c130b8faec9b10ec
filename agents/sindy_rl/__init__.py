"""SINDy-RL: policies trained in sparse models of the dynamics, learned from few real steps."""
