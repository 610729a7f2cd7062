"""From captioned pictures to weights: the plan, the loop, and what is left in the run folder."""
