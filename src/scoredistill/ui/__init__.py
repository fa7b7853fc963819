"""The web app: forms that run tasks in a worker process, and a page that shows runs. Needs gradio (extra `ui`)."""
