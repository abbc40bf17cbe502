//! What an agent and its callers know each other by: a certificate of the agent's own, which its callers pin, and a
//! token, which it asks for. Both stand in one Secret, mounted only where the agent's process can read it.
