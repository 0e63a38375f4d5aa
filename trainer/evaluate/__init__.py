"""Evaluation: is every style of a merged checkpoint really in there, and what did it cost?

Paper, section 4.1: the student paints the prompts in each of its styles and so does each teacher,
twice, from other noise; M[i, j] is the Frechet distance between the student's pictures in style i
and teacher j's, M_ref the same with teacher i in the student's place, and FIDt the trace.
"""
