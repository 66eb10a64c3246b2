"""The teacher ``api:MODEL``: an LLM behind an OpenAI-compatible HTTP endpoint.

``endpoint`` sends requests (retries, rate limits, several servers, tokens and cost). ``question`` renders the prompt.
``sources`` turns a server's answers into scores of the labels and tests each way to do so. ``answers`` stores every
paid answer on arrival. ``teacher`` joins them behind the interface of a teacher.
"""
