"""The teacher ``api:MODEL``: an LLM behind an OpenAI-compatible HTTP endpoint.

``endpoint`` sends requests (retries, rate limits), and ``usage`` counts tokens and money. ``source`` renders the prompt
and is the interface of a way to score labels; ``likelihoods``, ``next_token`` and ``votes`` contain the four ways, and
``choice`` tests them on the server. ``job`` asks about many texts and stores every answer on arrival. ``teacher`` joins
them behind the interface of a teacher.
"""
