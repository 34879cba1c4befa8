"""The study: its experiments, one after the other, and then the report.

What is asked, what the lab report says and what is found by each verdict stand in questions.yaml,
claims.yaml, sentences.yaml and outcomes.yaml; zh/ has their words in Chinese, by the same ids.
"""
