"""What a workflow is: statuses, stages, tasks, their graph."""
