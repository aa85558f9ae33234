# The locked environment for GPUs: torch's wheels bring CUDA, the driver is the host's.
#   docker build -t pruning . && docker run --rm --gpus all -v "$PWD/results:/results" pruning \
#     harness compare --output /results/local
FROM python:3.11-slim
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/pruning
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[ray]'
CMD ["harness", "--help"]
