"""fit, evaluate and predict of Keras models, each step of which is one compiled graph."""

from collections.abc import Callable
from typing import Any

import numpy as np


def trainer_class(NumpyTrainer: type) -> type:
    """Keras' numpy trainer, which can evaluate and predict, with steps compiled and with `fit`."""
    from keras.src import callbacks as callbacks_module
    from keras.src import optimizers as optimizers_module
    from keras.src import tree
    from keras.src.backend import config
    from keras.src.random.seed_generator import global_seed_generator
    from keras.src.trainers import trainer as base_trainer
    from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils
    from keras.src.trainers.epoch_iterator import EpochIterator
    from keras.src.utils import traceback_utils
    from keras.src.utils.python_utils import pythonify_logs

    from .steps import Step, gradients

    class TesselTrainer(NumpyTrainer):  # type: ignore[misc,valid-type]
        """`train_step`, `test_step` and `predict_step` take a batch, and are traced."""

        def __init__(self) -> None:
            super().__init__()
            self.train_function: Callable | None = None  # compile() forgets all three

        def _step_variables(self) -> list:
            """What a step may read and assign."""
            optimizer = getattr(self, "optimizer", None)
            return [
                *self.variables,
                *(optimizer.variables if optimizer is not None else ()),
                *self.metrics_variables,
                global_seed_generator().state,
            ]

        def _compiled_step(self, step: Callable) -> Callable:
            return Step(step, self._step_variables, compiled=not self.run_eagerly)

        def train_step(self, data: Any) -> dict[str, Any]:
            """Forward, loss, gradients, update, metrics."""
            x, y, sample_weight = data_adapter_utils.unpack_x_y_sample_weight(data)
            y_pred = self(x, training=True) if self._call_has_training_arg else self(x)
            loss = self._compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            first = next(i for i in tree.flatten(x) if i is not None)
            self._loss_tracker.update_state(loss, sample_weight=first.shape[0])
            weights = self.trainable_weights
            if self.optimizer is not None and weights:
                loss = self.optimizer.scale_loss(loss)
                self.optimizer.apply(gradients(loss, weights), weights)
            return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

        def make_train_function(self, force: bool = False) -> Callable:
            if self.train_function is None or force:
                step = self._compiled_step(self.train_step)
                self.train_function = lambda batches: [step(b) for b in batches][-1]
            return self.train_function

        def make_test_function(self, force: bool = False) -> Callable:
            if self.test_function is None or force:
                step = self._compiled_step(self.test_step)
                self.test_function = lambda batches: [step(b) for b in batches][-1]
            return self.test_function

        def make_predict_function(self, force: bool = False) -> Callable:
            if self.predict_function is None or force:
                step = self._compiled_step(self.predict_step)

                def predict(batches: Any) -> Any:
                    outputs = [step(b) for b in batches]
                    if len(outputs) == 1:
                        return outputs[0]
                    return tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)

                self.predict_function = predict
            return self.predict_function

        def _symbolic_build(self, data_batch: Any = None, iterator: Any = None) -> None:
            base_trainer.Trainer._symbolic_build(self, iterator=iterator, data_batch=data_batch)

        def predict_on_batch(self, x: Any) -> Any:
            if not all(layer.built for layer in self._flatten_layers()):
                self._symbolic_build_of_inputs(x)
            return super().predict_on_batch(x)

        def _symbolic_build_of_inputs(self, x: Any) -> None:
            from keras.src import backend

            backend.compute_output_spec(
                self, tree.map_structure(lambda v: backend.KerasTensor(v.shape, v.dtype.name), x)
            )

        @traceback_utils.filter_traceback
        def predict(
            self,
            x: Any,
            batch_size: Any = None,
            verbose: Any = "auto",
            steps: Any = None,
            callbacks: Any = None,
        ) -> Any:
            if not all(layer.built for layer in self._flatten_layers()):
                batches = EpochIterator(x=x, batch_size=batch_size, steps_per_epoch=1)
                for _, _, data in batches:
                    first, _, _ = data_adapter_utils.unpack_x_y_sample_weight(data[0])
                    self._symbolic_build_of_inputs(tree.map_structure(np.asarray, first))
                    break
            return super().predict(x, batch_size, verbose, steps, callbacks)

        @traceback_utils.filter_traceback
        def fit(
            self,
            x: Any = None,
            y: Any = None,
            batch_size: Any = None,
            epochs: int = 1,
            verbose: Any = "auto",
            callbacks: Any = None,
            validation_split: float = 0.0,
            validation_data: Any = None,
            shuffle: bool = True,
            class_weight: Any = None,
            sample_weight: Any = None,
            initial_epoch: int = 0,
            steps_per_epoch: Any = None,
            validation_steps: Any = None,
            validation_batch_size: Any = None,
            validation_freq: Any = 1,
        ) -> Any:
            self._assert_compile_called("fit")
            most = config.max_epochs() if hasattr(config, "max_epochs") else None
            epochs = min(epochs, most) if most else epochs
            self._eval_epoch_iterator = None
            if validation_split and validation_data is None:
                (x, y, sample_weight), validation_data = array_slicing.train_validation_split(
                    (x, y, sample_weight), validation_split=validation_split
                )
            batches = EpochIterator(
                x=x,
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                steps_per_epoch=steps_per_epoch,
                shuffle=shuffle,
                class_weight=class_weight,
                steps_per_execution=self.steps_per_execution,
            )
            self._symbolic_build(iterator=batches)
            batches.reset()
            callbacks = self._callbacks(callbacks, batches, epochs, verbose, history=True)
            self.stop_training = False
            self.make_train_function()
            callbacks.on_train_begin()
            logs: dict[str, Any] = {}
            for epoch in range(self._initial_epoch or initial_epoch, epochs):
                self.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                logs = self._train_epoch(batches, callbacks)
                if validation_data is not None and self._should_eval(epoch, validation_freq):
                    logs |= self._validate(
                        validation_data,
                        validation_batch_size or batch_size,
                        validation_steps,
                        callbacks,
                    )
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            if isinstance(self.optimizer, optimizers_module.Optimizer) and epochs > 0:
                self.optimizer.finalize_variable_values(self.trainable_weights)
            self._eval_epoch_iterator = None
            callbacks.on_train_end(logs=logs)
            return self.history

        def _callbacks(
            self, given: Any, batches: Any, epochs: int, verbose: Any, history: bool
        ) -> Any:
            if isinstance(given, callbacks_module.CallbackList):
                return given
            return callbacks_module.CallbackList(
                given,
                add_history=history,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=epochs,
                steps=batches.num_batches,
                model=self,
            )

        def _train_epoch(self, batches: Any, callbacks: Any) -> dict[str, Any]:
            logs: dict[str, Any] = {}
            for begin, end, data in batches:
                callbacks.on_train_batch_begin(begin)
                logs = self.train_function(data)
                callbacks.on_train_batch_end(end, logs)
                if self.stop_training:
                    break
            return dict(pythonify_logs(self._get_metrics_result_or_logs(logs)))

        def _validate(self, data: Any, batch_size: Any, steps: Any, callbacks: Any) -> dict:
            x, y, sample_weight = data_adapter_utils.unpack_x_y_sample_weight(data)
            if self._eval_epoch_iterator is None:
                self._eval_epoch_iterator = EpochIterator(
                    x=x,
                    y=y,
                    sample_weight=sample_weight,
                    batch_size=batch_size,
                    steps_per_execution=self.steps_per_execution,
                    steps_per_epoch=steps,
                    shuffle=False,
                )
            found = self.evaluate(
                x=x,
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                steps=steps,
                callbacks=callbacks,
                return_dict=True,
                _use_cached_eval_dataset=True,
            )
            return {f"val_{name}": value for name, value in found.items()}

        def train_on_batch(
            self,
            x: Any,
            y: Any = None,
            sample_weight: Any = None,
            class_weight: Any = None,
            return_dict: bool = False,
        ) -> Any:
            self._assert_compile_called("train_on_batch")
            if class_weight is not None:
                if sample_weight is not None:
                    raise ValueError(
                        "Arguments `sample_weight` and `class_weight` cannot be specified at the "
                        f"same time. Received: sample_weight={sample_weight}, "
                        f"class_weight={class_weight}"
                    )
                sample_weight = data_adapter_utils.class_weight_to_sample_weights(y, class_weight)
            data = (x, y, sample_weight)
            self._symbolic_build(data_batch=tree.map_structure(_as_array, data))
            self.make_train_function()
            self.reset_metrics()
            logs = pythonify_logs(self.train_function([data]))
            return logs if return_dict else self._flatten_metrics_in_order(logs)

        def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
            self.reset_metrics()
            return super().test_on_batch(*args, **kwargs)

    TesselTrainer.__name__ = NumpyTrainer.__name__
    return TesselTrainer


def _as_array(x: Any) -> Any:
    return x if x is None else np.asarray(x)
