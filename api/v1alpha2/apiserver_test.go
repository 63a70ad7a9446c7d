package v1alpha2_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// object is a Kubernetes object as the API server holds it.
type object = map[string]any

// apiServer decides about objects of our kinds as the API server does, with
// its own library, from the CRDs in config/crd.
type apiServer struct {
	crds  map[string]*apiextensionsv1.CustomResourceDefinition // by kind, as all of them
	types map[string]*schema.Structural
	rules map[string]*cel.Validator
	check map[string]validation.SchemaValidator
}

// newAPIServer installs the CRDs. It fails the test if the API server would
// refuse one, for example because a rule is too expensive.
func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	return newAPIServerOf(t, v1alpha2.GroupVersion.Version)
}

// newAPIServerOf is newAPIServer for objects of another version.
func newAPIServerOf(t testing.TB, served string) *apiServer {
	t.Helper()
	s := &apiServer{
		crds:  map[string]*apiextensionsv1.CustomResourceDefinition{},
		types: map[string]*schema.Structural{},
		rules: map[string]*cel.Validator{},
		check: map[string]validation.SchemaValidator{},
	}
	files, err := filepath.Glob("../../config/crd/network.kubesphere.io_*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v; want three CRDs", files, err)
	}
	for _, file := range files {
		if err := s.install(file, served); err != nil {
			t.Fatalf("install %s: %v", file, err)
		}
	}
	return s
}

func (s *apiServer) install(file, served string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		return err
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(crd)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	crd.Status.StoredVersions = []string{"v1alpha2"}
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
		return err
	}
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal); len(errs) > 0 {
		return errs.ToAggregate()
	}

	kind := crd.Spec.Names.Kind
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(versionOf(crd, served).Schema.OpenAPIV3Schema, props, nil); err != nil {
		return err
	}
	s.crds[kind] = crd
	if s.types[kind], err = schema.NewStructural(props); err != nil {
		return err
	}
	s.rules[kind] = cel.NewValidator(s.types[kind], true, celconfig.PerCallLimit)
	s.check[kind], _, err = validation.NewSchemaValidator(props)
	return err
}

// version is the part of a CRD that these tests are about.
func version(crd *apiextensionsv1.CustomResourceDefinition) apiextensionsv1.CustomResourceDefinitionVersion {
	return versionOf(crd, v1alpha2.GroupVersion.Version)
}

func versionOf(crd *apiextensionsv1.CustomResourceDefinition, name string) apiextensionsv1.CustomResourceDefinitionVersion {
	for _, v := range crd.Spec.Versions {
		if v.Name == name {
			return v
		}
	}
	return apiextensionsv1.CustomResourceDefinitionVersion{Schema: &apiextensionsv1.CustomResourceValidation{}}
}

// admit returns why obj cannot be created or, if existing is not nil, cannot
// replace it; nil if it can. Fields that do not exist are refused, as kubectl
// asks for.
func (s *apiServer) admit(obj, existing object) error {
	kind := obj["kind"].(string)
	structural := s.types[kind]
	if structural == nil {
		return fmt.Errorf("no CRD for kind %q", kind)
	}
	unknown := pruning.PruneWithOptions(obj, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown field %q", unknown)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, structural)

	if existing == nil {
		errs := validation.ValidateCustomResource(nil, obj, s.check[kind])
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, structural, obj)...)
		return s.applyRules(kind, errs, obj, nil)
	}
	// What an update leaves alone is not held against it.
	unchanged := common.NewCorrelatedObject(obj, existing, &model.Structural{Structural: structural})
	errs := validation.ValidateCustomResourceUpdate(nil, obj, existing, s.check[kind], validation.WithRatcheting(unchanged))
	return s.applyRules(kind, errs, obj, existing, cel.WithRatcheting(unchanged))
}

// applyRules applies the CEL rules unless the object has the wrong shape.
func (s *apiServer) applyRules(kind string, errs field.ErrorList, obj, existing object, opts ...cel.Option) error {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return errs.ToAggregate()
		}
	}
	if rules := s.rules[kind]; rules != nil {
		var old any // a nil map in it would be an update of an empty object
		if existing != nil {
			old = existing
		}
		failed, _ := rules.Validate(context.Background(), nil, s.types[kind], obj, old, celconfig.RuntimeCELCostBudget, opts...)
		errs = append(errs, failed...)
	}
	return errs.ToAggregate()
}

// toObject reads YAML with numbers as the API server has them.
func toObject(t testing.TB, text string) object {
	t.Helper()
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	var obj object
	if err := json.Unmarshal(asJSON, &obj); err != nil {
		t.Fatalf("read %s: %v", asJSON, err)
	}
	return obj
}
