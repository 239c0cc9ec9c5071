# Two images from one file: `--target adapter` (no torch) and `--target worker`.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY integrations integrations
COPY worker worker
RUN useradd --create-home --uid 10001 prelabel

FROM base AS adapter
RUN pip install --constraint constraints.txt '.[label-studio]'
USER prelabel
EXPOSE 9090
CMD ["prelabel", "serve", "--host", "0.0.0.0"]

FROM base AS worker
RUN pip install --constraint constraints.txt '.[worker,label-studio]' && install -d -o prelabel /models
USER prelabel
CMD ["prelabel", "worker"]
