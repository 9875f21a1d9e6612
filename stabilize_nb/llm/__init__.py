"""Language models in workflows: a chat client, tools, and the tasks that use them."""

from stabilize_nb.llm.client import ChatMessage, ChatResponse, LLMClient
from stabilize_nb.llm.tasks import AgentLoopTask, ChatClient, LLMTask
from stabilize_nb.llm.tools import Tool, ToolCall, ToolRegistry, tool

__all__ = [
    "AgentLoopTask",
    "ChatClient",
    "ChatMessage",
    "ChatResponse",
    "LLMClient",
    "LLMTask",
    "Tool",
    "ToolCall",
    "ToolRegistry",
    "tool",
]
