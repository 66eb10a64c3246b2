"""The teacher ``api:MODEL``: an LLM behind an OpenAI-compatible HTTP endpoint.

``endpoint`` sends requests (retries, rate limits), and ``usage`` counts tokens. ``question`` renders the prompt.
``source`` is the interface of a way to score labels; ``likelihoods``, ``next_token`` and ``votes`` contain the four
ways, and ``choice`` tests them on the server. ``job`` asks about many texts, ``answers`` stores every answer on
arrival, and ``teacher`` joins them behind the interface of a teacher.
"""
