# Two images from one file: `--target adapter` (no torch, no model) and `--target worker`. Neither holds a secret: all of
# them come as environment variables when the container starts.
#
# PYTHON_IMAGE      base of every stage; pin a digest of it for builds that must be the same for ever
# TORCH_INDEX       package index with the torch build to take beside PyPI; empty takes PyPI's own, which brings CUDA
# PIP_INDEX_URL, …  pip's own variables, for a mirror
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---- what prelabel is made of: its wheel, and what each image must have beside it
FROM ${PYTHON_IMAGE} AS builder
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY deploy/requirements.py deploy/
# The lists change when pyproject.toml does, so the layers with torch below outlive every change of code.
RUN python deploy/requirements.py label-studio pictures > /adapter.txt \
 && python deploy/requirements.py worker label-studio > /worker.txt
COPY schemas schemas
COPY integrations integrations
COPY worker worker
RUN python -m pip wheel --no-deps --wheel-dir /wheels .

# The stages stand in the order they are needed: builders without BuildKit make everything above their target.
FROM ${PYTHON_IMAGE} AS adapter-packages
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/prelabel
COPY constraints.txt /
COPY --from=builder /adapter.txt /
RUN /opt/prelabel/bin/pip install --constraint /constraints.txt --requirement /adapter.txt
COPY --from=builder /wheels /wheels
RUN /opt/prelabel/bin/pip install --no-deps /wheels/*.whl

# ---- what runs: no compiler, no pip cache, no sources, no root
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/prelabel/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models PRELABEL_STATE_DIR=/state PRELABEL_HOST=0.0.0.0 PRELABEL_METRICS_PORT=9091 PRELABEL_LOG_FORMAT=json
# /models and /state are volumes; a named volume takes over the owner that the folder has here.
RUN useradd --create-home --uid 10001 prelabel \
 && install --directory --owner prelabel --group prelabel /models /state /images
WORKDIR /images
USER prelabel

FROM runtime AS adapter
COPY --from=adapter-packages /opt/prelabel /opt/prelabel
EXPOSE 9090 9091
CMD ["prelabel", "serve"]

FROM ${PYTHON_IMAGE} AS worker-packages
ARG PIP_INDEX_URL
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/prelabel
COPY constraints.txt /
COPY --from=builder /worker.txt /
RUN /opt/prelabel/bin/pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
      --constraint /constraints.txt --requirement /worker.txt
COPY --from=builder /wheels /wheels
RUN /opt/prelabel/bin/pip install --no-deps /wheels/*.whl

FROM runtime AS worker
COPY --from=worker-packages /opt/prelabel /opt/prelabel
EXPOSE 9091
# The first SIGTERM lets the worker finish or hand back what it has (PRELABEL_GRACE_S).
STOPSIGNAL SIGTERM
CMD ["prelabel", "worker"]
