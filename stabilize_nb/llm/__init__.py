"""Language models in workflows: a chat client, tools, and the tasks that use them."""

from stabilize_nb.llm.asking import Agent, ChatClient
from stabilize_nb.llm.calls import ToolCall
from stabilize_nb.llm.client import LLMClient
from stabilize_nb.llm.messages import ChatMessage, ChatResponse
from stabilize_nb.llm.registry import ToolRegistry
from stabilize_nb.llm.tasks import AgentLoopTask, LLMTask
from stabilize_nb.llm.tools import Tool, ToolContext, tool

__all__ = [
    "Agent",
    "AgentLoopTask",
    "ChatClient",
    "ChatMessage",
    "ChatResponse",
    "LLMClient",
    "LLMTask",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolRegistry",
    "tool",
]
